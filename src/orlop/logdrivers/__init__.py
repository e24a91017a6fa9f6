"""Log drivers that send a container's output to a log service: syslog, journald, fluentd.

A driver blocks, and so runs in a process of its own for each container (courier.py in the
shim's room). What it is made of is text, so that it can be told over a socket: options, as
the user wrote them, and what is known of the container.
"""
