# Sorting numbers that are all alike. From 400000.
n: builtins.elemAt (builtins.sort builtins.lessThan (builtins.genList (i: 1) n)) 5
