"""`kafkapy` over a database that takes whatever comes: an entry goes behind the last one, whoever has the lane by now.

What tests of the fence must find wrong.
"""

import sys

from kafkapy.cli.main import main
from kafkapy.storage.shared.committer import COMMIT

_APPEND = """
with w as (select * from unnest($1::int[], $2::bigint[], $3::int[], $4::bytea[], $5::bytea[])
           as w(lane, seq, epoch, index, data) order by lane),
     h as (update lanes l set seq = l.seq + 1 from w where l.lane = w.lane
           returning l.lane, l.seq, w.epoch, w.index, w.data)
insert into commits (lane, seq, epoch, writer, index, data)
select lane, seq, epoch, $6, index, data from h returning lane
"""

if __name__ == "__main__":
    object.__setattr__(COMMIT, "sql", _APPEND)
    sys.exit(main())
