"""What goes wrong with a database. Known without psycopg, which who has no database need not install."""


class DatabaseError(Exception):
    """The database did not do what it was asked to."""


class Unreachable(DatabaseError):
    """There is no connection, so the statement was not sent."""


class OutcomeUnknown(DatabaseError):
    """The connection ended before the statement was answered."""


class StatementFailed(DatabaseError):
    """The database refused a statement, which has changed nothing; `state` is its SQLSTATE."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state

    @property
    def is_damage(self) -> bool:
        """Whether the database cannot read what it has itself: a page, an index or a file is damaged."""
        return self.state.startswith(("XX", "58"))


class UnfitDatabase(Exception):
    """This database cannot be the cluster's: the text says why."""


def lost_entries(lane: int, seq: int, had: int) -> UnfitDatabase:
    """A database that has lost what it acknowledged must not be served from."""
    return UnfitDatabase(
        f"lane {lane} ends at entry {seq} and had {had}: the database has lost what it acknowledged; has an "
        "asynchronous standby become the primary?"
    )


class DatabaseInUse(Exception):
    """Another process has the cluster in this database."""
