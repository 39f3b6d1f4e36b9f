# `concatMap`. From 400000.
n:
builtins.length (
  builtins.concatMap (i: [
    i
    i
    i
  ]) (builtins.genList (i: i) n)
)
