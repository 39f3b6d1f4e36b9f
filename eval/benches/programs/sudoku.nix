# Sudoku by search: lists of candidates, copied boards. From 4.
n:
let
  inherit (builtins) genList elemAt filter length foldl' substring elem concatStringsSep;
  puzzle = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79";
  mod = a: b: a - (a / b) * b;
  cells = genList (i: let c = substring i 1 puzzle; in if c == "." then 0 else builtins.fromJSON c) 81;
  digits = [ 1 2 3 4 5 6 7 8 9 ];
  peers = genList (i: let r = i / 9; c = mod i 9; in filter (j: j != i && (j / 9 == r || mod j 9 == c || (j / 27 == i / 27 && (mod j 9) / 3 == c / 3))) (genList (j: j) 81)) 81;
  cands = b: i: let used = map (elemAt b) (elemAt peers i); in filter (d: ! elem d used) digits;
  set = b: i: v: genList (j: if j == i then v else elemAt b j) 81;
  solve = b: let
    empty = filter (i: elemAt b i == 0) (genList (i: i) 81);
    best = foldl' (a: i: let cs = cands b i; n = length cs; in if a == null || n < a.n then { inherit i n cs; } else a) null empty;
    try = cs: if cs == [ ] then null else let r = solve (set b best.i (builtins.head cs)); in if r != null then r else try (builtins.tail cs);
  in if empty == [ ] then b else try best.cs;
in map (k: concatStringsSep "" (map toString (solve (set cells k (elemAt cells k))))) (genList (i: i) n)
