# A closure with strings as keys. From 80000.
n:
builtins.length (builtins.genericClosure {
  startSet = [
    {
      key = "0";
      n = 0;
    }
  ];
  operator =
    x:
    if x.n >= n then
      [ ]
    else
      [
        {
          key = toString (x.n + 1);
          n = x.n + 1;
        }
      ];
})
