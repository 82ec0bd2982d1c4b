"""`partgen app`: the applications as a local web server, and its client."""
