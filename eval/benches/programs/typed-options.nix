# Options with types: checks, merging, priorities, conditions, submodules. From 1500.
n:
let
  inherit (builtins) isInt isString isBool isList isAttrs all attrValues mapAttrs foldl' genList concatLists zipAttrsWith head length filter attrNames concatMap map listToAttrs isFunction;
  mkType = name: check: merge: { _type = "option-type"; inherit name check merge; };
  one = loc: defs: if length defs == 1 then (head defs).value else if all (d: d.value == (head defs).value) defs then (head defs).value else throw "conflict at ${builtins.concatStringsSep "." loc}";
  types = rec {
    int = mkType "int" isInt one; str = mkType "str" isString one; bool = mkType "bool" isBool (l: d: foldl' (a: x: a || x.value) false d);
    listOf = t: mkType "listOf ${t.name}" (v: isList v && all t.check v) (l: d: concatLists (map (x: x.value) d));
    attrsOf = t: mkType "attrsOf ${t.name}" isAttrs (l: d: mapAttrs (n: ds: t.merge (l ++ [ n ]) (filter (x: t.check x.value || throw "bad") ds)) (zipAttrsWith (n: vs: vs) (map (x: mapAttrs (n: v: { inherit (x) file; value = v; }) x.value) d)));
    either = a: b: mkType "either" (v: a.check v || b.check v) one; nullOr = t: mkType "nullOr ${t.name}" (v: v == null || t.check v) one;
    enum = vs: mkType "enum" (v: builtins.elem v vs) one;
    submodule = opts: mkType "submodule" (v: isAttrs v || isFunction v) (l: d: evalOpts l opts (map (x: { inherit (x) file; value = if isFunction x.value then x.value { name = builtins.elemAt l (length l - 1); } else x.value; }) d));
  };
  prio = v: if isAttrs v && v._type or "" == "override" then v.priority else 100;
  strip = v: if isAttrs v && v._type or "" == "override" then v.content else v;
  mkForce = content: { _type = "override"; priority = 50; inherit content; };
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  discharge = d: if isAttrs d.value && d.value._type or "" == "if" then (if d.value.condition then discharge (d // { value = d.value.content; }) else [ ]) else [ d ];
  evalOpts = loc: opts: defs: mapAttrs (n: o: let
      mine = concatMap (d: if d.value ? ${n} then discharge { inherit (d) file; value = d.value.${n}; } else [ ]) defs;
      top = foldl' (a: d: let p = prio d.value; in if p < a then p else a) 1000 mine;
      kept = map (d: d // { value = strip d.value; }) (filter (d: prio d.value == top) mine);
    in if o ? type then (if kept == [ ] then o.default or (throw "no value for ${n}") else if all (d: o.type.check d.value) kept then o.type.merge (loc ++ [ n ]) kept else throw "type of ${n}") else evalOpts (loc ++ [ n ]) o kept) opts;
  svc = { enable = { type = types.bool; default = false; }; port = { type = types.nullOr types.int; default = null; }; user = { type = types.str; default = "root"; }; env = { type = types.attrsOf (types.either types.str types.int); default = { }; }; mode = { type = types.enum [ "a" "b" "c" ]; default = "a"; }; extra = { type = types.listOf types.str; default = [ ]; }; };
  opts = { services = { type = types.attrsOf (types.submodule svc); }; hosts = { type = types.attrsOf types.str; }; name = { type = types.str; }; };
  mod = a: b: a - (a / b) * b;
  modules = genList (i: { file = "m${toString i}.nix"; value = { services."s${toString (mod i 2000)}" = { name, ... }: { enable = true; env.${"V${toString (mod i 5)}"} = name; extra = [ "-x${toString i}" ]; user = if mod i 2000 == 3 then mkForce "u" else mkIf (i > 1 && i < 3) "nobody"; }; hosts."h${toString i}" = "10.0.0.${toString (mod i 255)}"; name = mkIf (i == 4) "system"; }; }) n;
  config = evalOpts [ ] opts modules;
in builtins.hashString "sha256" (builtins.toJSON config)
