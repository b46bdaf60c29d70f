"""What workers share: reservations of paid calls, token buckets. Both implementations of `base` pass one suite."""
