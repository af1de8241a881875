chmod 700 d/tool; chmod 600 d/plain; chmod 700 d/s
