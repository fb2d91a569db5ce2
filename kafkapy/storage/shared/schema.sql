-- What the shared store keeps in PostgreSQL. Carried out by whichever process comes first, and by every later one,
-- under a lock: it makes what is missing. The format's number stands in `cluster`.

create table if not exists cluster (
    one boolean primary key default true check (one),
    id text not null,
    format int not null,
    lanes int not null,
    moves bigint not null default 0
);

-- From format 1, in which one process had all lanes, by leases on each.
do $$ begin
    if exists (select from cluster where format = 1) then
        drop table brokers;
        alter table cluster add column moves bigint not null default 0;
        alter table lanes drop column node_id, drop column expires;
        update cluster set format = 2;
    end if;
end $$;

-- From format 2, in which every log counted its epochs as its lane does: those that are there go on so.
update cluster set format = 3 where format = 2;

-- Processes that are there: whose lease has run out is removed by whoever sees it, and has no lane from then on.
-- `moves` of the cluster grows with every change of this table, but for renewals, and with every change of an owner.
create table if not exists brokers (
    node_id int primary key,
    incarnation text not null unique,
    host text not null,
    state text not null,
    endpoints text not null default '[]',
    rack text,
    expires timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- A lane's head: who may write its next entry, and which number that has. Updated in place with every commit. Its owner
-- is an incarnation; one that has no row in `brokers` is none.
create table if not exists lanes (
    lane int primary key,
    owner text,
    epoch int not null default -1,
    seq bigint not null default 0,
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

-- What a coordinator made of its log's records before `log_offset`, the last two.
create table if not exists coordinators (
    topic_id uuid not null,
    partition int not null,
    log_offset bigint not null,
    state bytea not null,
    primary key (topic_id, partition, log_offset)
);

-- What is compressed already lies as it is. Only where that is not so yet: it takes locks that nobody who runs may meet.
do $$ declare kept record; begin
    for kept in
        select attrelid::regclass as name, attname from pg_attribute
        where (attrelid, attname) in (('commits'::regclass, 'data'), ('commits'::regclass, 'index'),
                                      ('pieces'::regclass, 'data')) and attstorage <> 'e'
    loop
        execute format('alter table %s alter column %I set storage external', kept.name, kept.attname);
    end loop;
end $$;
