"""One thin module a DVC stage, and the command line `partgen`."""
