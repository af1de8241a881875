chmod 704 d/tool; chmod 604 d/plain; chmod 705 d/s
