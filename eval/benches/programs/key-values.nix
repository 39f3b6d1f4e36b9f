# Lines of a configuration, taken apart by a pattern. From 5000.
n:
let
  text = builtins.concatStringsSep "\n" (
    builtins.genList (i: "key_${toString i} = \"value ${toString i}\" # comment") n
  );
  lines = builtins.filter builtins.isString (builtins.split "\n" text);
  pair = builtins.match "[[:space:]]*([^=[:space:]]+)[[:space:]]*=[[:space:]]*\"([^\"]*)\"[[:space:]]*(#.*)?";
in
builtins.length (builtins.filter (x: x != null) (map pair lines))
