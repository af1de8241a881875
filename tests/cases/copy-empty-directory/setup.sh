mkdir -m 700 d; touch -d @1500000000 d
