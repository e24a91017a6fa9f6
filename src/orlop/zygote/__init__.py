"""What runs inside a template's sandbox, with the Python of its image, 3.8 or later.

Only the standard library is there, and ctypes. The text of these modules is sent in; nothing
here is imported by the rest of Orlop but `source`, and nothing here imports the rest.

    engine                        zygote                     guard             the run
      | program, setup (memfd)      |                          |                 |
      |---------------------------->| imports, setup, checks   |                 |
      |<---- ready, or why not -----|                          |                 |
      | fork + a socket + doors     |                          |                 |
      |---------------------------->| fork, a pid namespace -->|                 |
      |<---- pid, pidfd ------------|        its cgroup, namespaces, root; no rights left
      |                             |                          | fork ---------->|
      |<------------------------------------------- ready -----|                 | waits
      | go + stdin, stdout, stderr, code                       |                 |
      |------------------------------------------------------------------------->| runs it
      |<---------------------------------- its exit code ------| wait            |
      | reap {pid}                  |                          | its end kills all others
      |---------------------------->|
"""
