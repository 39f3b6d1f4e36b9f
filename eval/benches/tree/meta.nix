let
  pkgs = import ./. { overlays = import ./overlays.nix; };
  names = builtins.filter (name: pkgs.${name}.meta.available or false) (builtins.attrNames pkgs);
in
builtins.hashString "sha256" (builtins.toJSON (map (name: pkgs.${name}.meta) names))
