"""What no record can hold: large replies and archives of bundles, in a directory that all readers share or on S3."""
