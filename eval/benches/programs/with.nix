# Names through several `with`s. From 200000.
n:
with { a = 1; };
with { b = 2; };
with { c = 3; };
with { d = 4; }; builtins.foldl' (x: i: x + a + b + c + d) 0 (builtins.genList (i: i) n)
