mkdir d; touch -d @1500000000 d
