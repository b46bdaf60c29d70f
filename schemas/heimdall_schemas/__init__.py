"""What is said on the wire: messages, topics, headers, failure codes. Needs pydantic and orjson only."""
