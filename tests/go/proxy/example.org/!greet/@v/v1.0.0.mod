module example.org/Greet

go 1.19
