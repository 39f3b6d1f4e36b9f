# Sorting what is sorted the other way round. From 400000.
n: builtins.elemAt (builtins.sort builtins.lessThan (builtins.genList (i: n - i) n)) 5
