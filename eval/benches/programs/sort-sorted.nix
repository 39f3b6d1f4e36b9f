# Sorting what is sorted. From 400000.
n: builtins.elemAt (builtins.sort builtins.lessThan (builtins.genList (i: i) n)) 5
