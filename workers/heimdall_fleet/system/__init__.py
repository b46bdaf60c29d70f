"""What a worker asks of the system that it runs on: where its memory lies, and how many threads compute."""
