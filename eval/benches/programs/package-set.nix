# Packages of a set with overlays, three stages, overriding and a scope of its own, all instantiated. From 2500.
size:
let
  inherit (builtins) attrNames concatMap elemAt filter foldl' functionArgs genList intersectAttrs isFunction listToAttrs mapAttrs removeAttrs;
  fix = f: let x = f x; in x;
  extends = overlay: f: final: let prev = f final; in prev // overlay final prev;
  args = f: f.__functionArgs or (functionArgs f);
  withArgs = f: a: { __functor = _: f; __functionArgs = a; };
  makeOverridable = f: withArgs (given: let
    result = f given;
    with' = new: given // (if isFunction new then new given else new);
  in result // {
    override = new: makeOverridable f (with' new);
    ${if result ? overrideAttrs then "overrideAttrs" else null} = g: makeOverridable (withArgs (a: (f a).overrideAttrs g) (args f)) given;
  }) (args f);
  callPackageWith = auto: f: given: let
    all = intersectAttrs (args f) auto // given;
    missing = filter (n: !(args f).${n} && !(all ? ${n})) (attrNames (args f));
  in if missing == [ ] then makeOverridable f all else throw "nothing provides ${elemAt missing 0}";
  makeScope = newScope: f: let self = f self // {
    newScope = extra: newScope (self // extra);
    callPackage = self.newScope { };
    overrideScope = g: makeScope newScope (extends g f);
  }; in self;
  licenses = listToAttrs (genList (i: { name = "l${toString i}"; value = { spdxId = "L-${toString i}"; free = i != 7; }; }) 40);
  mkStdenv = { name, shell, path }: let stdenv = {
    inherit shell;
    system = "x86_64-linux";
    setup = derivation { name = "stdenv-${name}"; inherit (stdenv) system; builder = shell; path = map toString path; };
    mkDerivation = attrs: let
      wanted = filter (d: d != null) (attrs.buildInputs or [ ]);
      fine = (attrs.meta.license or { free = true; }).free && builtins.elem stdenv.system (attrs.meta.platforms or [ stdenv.system ]);
      drv = derivation (removeAttrs attrs [ "meta" "passthru" "pname" "version" ] // {
        name = "${attrs.pname}-${attrs.version}";
        inherit (stdenv) system;
        builder = shell;
        args = [ "-e" "build" ];
        stdenv = stdenv.setup;
        buildInputs = map (d: d.dev or d) wanted;
        configureFlags = (attrs.configureFlags or [ ]) ++ (if attrs.static or false then [ "--static" ] else [ ]);
        outputs = attrs.outputs or [ "out" ];
        __ignoreNulls = true;
      });
    in drv // (attrs.passthru or { }) // {
      meta = { name = drv.name; available = fine; } // attrs.meta or { };
      drvPath = if fine then drv.drvPath else throw "${drv.name} is not available";
      overrideAttrs = g: stdenv.mkDerivation (attrs // g attrs);
    };
  }; in stdenv;
  package = i: { stdenv, self, fetch, enable ? i / 2 * 2 == i, ... }: stdenv.mkDerivation {
    pname = "p${toString i}";
    version = "${toString (i / 10)}.${toString (i - i / 10 * 10)}";
    src = fetch "p${toString i}";
    buildInputs = map (n: self."p${toString n}") (filter (n: n >= 0 && n < i && n - n / 40 * 40 != 7) [ (i / 2) (i - 3) (i - 7) ]);
    configureFlags = [ "--prefix=${builtins.placeholder "out"}" ] ++ (if enable then [ "--enable-x" ] else [ ]);
    outputs = if i / 3 * 3 == i then [ "out" "dev" ] else [ "out" ];
    postInstall = "install ${toString i} $out/bin\nwrap ${stdenv.shell}\n";
    meta = { description = "package ${toString i}"; license = licenses."l${toString (i - i / 40 * 40)}"; platforms = [ "x86_64-linux" "aarch64-linux" ]; };
  };
  stage = overlays: prev: fix (foldl' (f: o: extends o f) (final: {
    self = final;
    stdenv = mkStdenv { name = "s"; shell = if prev == { } then "/bin/sh" else "${prev.p0}/bin/sh"; path = if prev == { } then [ ] else [ prev.p0 prev.p1 ]; };
    callPackage = callPackageWith final;
    newScope = extra: callPackageWith (final // extra);
    fetch = name: derivation { inherit name; system = "builtin"; builder = "builtin:fetchurl"; url = "mirror://x/${name}"; outputHash = builtins.hashString "sha256" name; outputHashAlgo = "sha256"; };
    scope = makeScope final.newScope (s: listToAttrs (genList (i: {
      name = "m${toString i}";
      value = s.callPackage ({ stdenv, self, ... }: stdenv.mkDerivation { pname = "m${toString i}"; version = "1"; buildInputs = [ self."p${toString (i / 40 * 40)}" ]; }) { };
    }) (size / 10)));
  }) overlays);
  packages = final: prev: listToAttrs (genList (i: { name = "p${toString i}"; value = final.callPackage (package i) { }; }) size);
  changes = final: prev: {
    p5 = prev.p5.override { enable = true; };
    p6 = prev.p6.overrideAttrs (old: { postInstall = old.postInstall + "true\n"; });
  };
  pkgs = stage [ packages changes ] (stage [ packages ] (stage [ packages ] { }));
  paths = set: map (n: let r = builtins.tryEval (set.${n}.drvPath or null); in if r.success then r.value else "refused") (attrNames set);
in builtins.hashString "sha256" (builtins.toJSON (paths (removeAttrs pkgs [ "self" "stdenv" "scope" ]) ++ paths pkgs.scope))
