# Forcing a long list of sets. From 100000.
n:
builtins.deepSeq (
  builtins.genList (i: {
    a = i;
    b = [ i ];
  }) n
) 1
