"""The CRI's streaming server: commands, attachments and port forwards over upgraded connections.

    kubectl -- API server -- kubelet -- HTTP, upgraded --> server.py
        spdy.py, over the connection or through a websocket  \\
        channels.py, over a websocket                         > streams with names
            -> commands.py: Exec, Attach      -> ports.py: PortForward
"""
