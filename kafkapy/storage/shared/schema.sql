-- What the shared store keeps in PostgreSQL. Carried out by whichever process comes first, and by every later one,
-- under a lock: it makes what is missing. The format's number stands in `cluster`.

create table if not exists cluster (
    one boolean primary key default true check (one),
    id text not null,
    format int not null,
    lanes int not null
);

-- Processes that are there, or were a moment ago.
create table if not exists brokers (
    incarnation text primary key,
    node_id int not null,
    host text not null,
    seen timestamptz not null
);

-- A lane's head: who may write its next entry, and which number that has. Updated in place with every commit.
create table if not exists lanes (
    lane int primary key,
    owner text,
    node_id int not null default -1,
    epoch int not null default -1,
    seq bigint not null default 0,
    expires timestamptz not null default '-infinity',
    checkpoint_seq bigint not null default 0
) with (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Entries that no checkpoint holds yet: what was written, and the bytes.
create table if not exists commits (
    lane int not null,
    seq bigint not null,
    epoch int not null,
    writer text not null,
    index bytea not null,
    data bytea not null,
    primary key (lane, seq)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
alter table commits alter column data set storage external;
alter table commits alter column index set storage external;

-- A lane's state after the entry `seq`.
create table if not exists checkpoints (
    lane int primary key,
    seq bigint not null,
    state bytea not null
);

-- The bytes of a log that no entry holds any longer.
create table if not exists pieces (
    lane int not null,
    topic_id uuid not null,
    partition int not null,
    base_offset bigint not null,
    end_offset bigint not null,
    position bigint not null,
    size int not null,
    max_timestamp bigint not null,
    data bytea not null,
    primary key (lane, topic_id, partition, base_offset)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
alter table pieces alter column data set storage external;

-- What a coordinator made of its log's records before `log_offset`, the last two.
create table if not exists coordinators (
    topic_id uuid not null,
    partition int not null,
    log_offset bigint not null,
    state bytea not null,
    primary key (topic_id, partition, log_offset)
);
