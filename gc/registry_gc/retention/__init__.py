"""Which tags are old enough to go: rules, what is known of tags, decisions, and carrying them out."""
