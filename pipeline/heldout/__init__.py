"""The stages for held-out objects: what each runs in its pool processes, and the tables it writes."""
