"""The only package that imports aiokafka: typed, bounded in time, failing with our own errors.

aiokafka has no type information, and some of what the fleet needs has no public name there: the member's
generation, the metadata of a commit, a commit that is tried once, which partitions have records buffered, closing
while the broker is gone. Every such reach inside stands here and is exercised by tests/contract/kafka.
"""
