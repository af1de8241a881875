touch -d @1500000000.75 d/old; touch -d @1800000000 d/new; touch -d @1400000000 d
