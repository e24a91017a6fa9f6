"""The program `orlop-runtime`: the command line of an OCI runtime, as runc has it."""
