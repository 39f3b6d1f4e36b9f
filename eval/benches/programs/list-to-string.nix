# `toString` of a long list. From 400000.
n: builtins.stringLength (toString (builtins.genList (i: i) n))
