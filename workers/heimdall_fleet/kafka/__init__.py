"""Everything that touches Kafka.

`records` and `errors` are plain values, `offsets` is pure, `driver` is the only module that imports aiokafka.
`producer`, `intake` (slow handlers), `batches` (micro-batches) and `reader` (no group) are what the rest of the
fleet uses; `admin` creates topics; `embedded` is the broker inside the process.
"""
