mkdir in; echo a >in/a.txt; tar -C in -cf t.tar a.txt; rm -r in
