# Deep recursion that is no tail call. From 1000000.
n:
let
  go = i: if i == 0 then 0 else 1 + go (i - 1);
in
go (n / 10)
