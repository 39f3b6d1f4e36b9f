# A lock file in JSON, written, read and looked through. From 5000.
n:
let
  node = i: {
    name = "node_modules/pkg-${toString i}";
    value = {
      version = "${toString i}.0.0";
      resolved = "https://registry.example.org/pkg-${toString i}.tgz";
      integrity = builtins.hashString "sha512" (toString i);
      dependencies.a = "^${toString i}";
    };
  };
  text = builtins.toJSON { nodes = builtins.listToAttrs (builtins.genList node n); };
  nodes = (builtins.fromJSON text).nodes;
in
builtins.foldl' (a: name: a + builtins.stringLength nodes.${name}.integrity) 0 (builtins.attrNames nodes)
