# Texts of ten kilobytes made and dropped while much else is alive. From 10000.
n:
let
  alive = builtins.genList (i: [ i (i + 1) (toString i) ]) (n * 4);
  text = builtins.concatStringsSep "" (builtins.genList toString 2200);
  lengths = builtins.foldl' (a: i: a + builtins.stringLength (text + toString i)) 0 (builtins.genList (i: i) n);
in
builtins.deepSeq alive (lengths + builtins.length alive)
