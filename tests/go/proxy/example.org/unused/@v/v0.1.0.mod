module example.org/unused
