"""The end of share sessions: by their members' wish, or with the connection that they were opened on."""

from collections.abc import Iterable

from kafkapy.handlers.context import Context, Rooms, Session
from kafkapy.sharing.sessions import SessionKey, ShareSession


def end_session(key: SessionKey, rooms: Rooms) -> None:
    """Close the member's session, if it has one: what it was given and did not acknowledge is free for others."""
    session = rooms.share_sessions.close(key)
    if session is not None:
        rooms.share_partitions.release(key.group_id, key.member_id, session.is_told)


def follow_connection(opened: ShareSession, ctx: Context) -> None:
    """End this session, too, when the connection that it was opened on is over.

    Sessions of the connection that have ended are forgotten: a client may open any number, one after the other.
    """
    rooms, followed = ctx.rooms, ctx.session.share_sessions
    over = {each for each in followed if not rooms.share_sessions.is_open(each)}
    ctx.session.share_sessions = (followed - over) | {opened}
    _forget_unused(over, rooms)


def connection_closed(session: Session, rooms: Rooms) -> None:
    """End what was opened on this connection, but for what its members have opened anew on another one."""
    for opened in session.share_sessions:
        if rooms.share_sessions.is_open(opened):
            end_session(opened.key, rooms)
    _forget_unused(session.share_sessions, rooms)


def _forget_unused(over: Iterable[ShareSession], rooms: Rooms) -> None:
    """These sessions are over: what is kept for groups that have no other ones need not be kept."""
    for group_id in {each.key.group_id for each in over}:
        if not rooms.share_sessions.has_members(group_id):
            rooms.share_partitions.on_group_unused(group_id)
