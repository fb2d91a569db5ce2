from kafkapy.records.batch import Buffer

def pass_records(
    buf: Buffer, position: int, count: int, place: int, base_timestamp: int, whole: bool, max_record_bytes: int, /
) -> tuple[int, int, int, int, int]: ...
