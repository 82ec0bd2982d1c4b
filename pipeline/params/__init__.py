"""The typed model of params.yaml: one frozen group a stage, one module a group."""
