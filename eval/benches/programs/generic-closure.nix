# A closure in which each item leads to the next two. From 80000.
n:
builtins.length (builtins.genericClosure {
  startSet = [ { key = 0; } ];
  operator =
    x:
    if x.key >= n then
      [ ]
    else
      [
        { key = x.key + 1; }
        { key = x.key + 2; }
      ];
})
