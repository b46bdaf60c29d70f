"""The triage worker: requests in, orders and decision records out."""
