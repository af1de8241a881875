chmod 705 d/s; chmod 715 d; touch -d @1500000000 d/s; touch -d @1400000000 d
