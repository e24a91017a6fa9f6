"""The program `orlop-runtime`: the command line of an OCI runtime, the same as runc's."""
