"""What a worker tells about itself: metrics, log lines, health, and the small HTTP server that shows them."""
