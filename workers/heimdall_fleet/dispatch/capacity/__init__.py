"""Who may be called now: providers and their keys, what they are limited to, and what is known of their health."""
