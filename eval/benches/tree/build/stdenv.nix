{ lib, config, system }:
let
  inherit (lib) maybe onlyIf outputOf;
  host = {
    inherit system;
    isLinux = lib.endsWith "-linux" system;
    isDarwin = lib.endsWith "-darwin" system;
    isStatic = false;
    config = "x86_64-unknown-linux-gnu";
  };
  hardening = [ "bindnow" "format" "fortify" "pic" "relro" "stackprotector" ];
  written = file: builtins.toFile (baseNameOf file) (builtins.readFile file);
  builder = written ./builder.sh;
  # What is said about a package and does not reach its builder.
  aside = [ "meta" "passthru" "checkInputs" "nativeCheckInputs" ];
  develop = map (outputOf "dev");

  argumentsFor = {
    buildInputs ? [ ],
    nativeBuildInputs ? [ ],
    propagatedBuildInputs ? [ ],
    checkInputs ? [ ],
    nativeCheckInputs ? [ ],
    configureFlags ? [ ],
    cmakeFlags ? [ ],
    patches ? [ ],
    outputs ? [ "out" ],
    doCheck ? config.doCheckByDefault or false,
    strictDeps ? false,
    hardeningDisable ? [ ],
    enableParallelBuilding ? false,
    separateDebugInfo ? false,
    ...
  }@attrs:
    let
      unknown = builtins.filter (one: !builtins.elem one hardening) hardeningDisable;
    in
    if unknown != [ ] then
      throw "no such hardening: ${lib.joined ", " unknown}"
    else
      builtins.removeAttrs attrs aside
      // onlyIf (attrs ? pname && attrs ? version) { name = "${attrs.pname}-${attrs.version}"; }
      // {
        inherit system strictDeps patches doCheck;
        builder = attrs.realBuilder or "/bin/sh";
        args = attrs.args or [ "-e" (attrs.builder or builder) ];
        stdenv = setup;
        userHook = config.userHook or null;
        __ignoreNulls = true;
        nativeBuildInputs = develop (nativeBuildInputs ++ maybe doCheck nativeCheckInputs);
        buildInputs = develop (buildInputs ++ maybe doCheck checkInputs);
        propagatedBuildInputs = develop (lib.distinct propagatedBuildInputs);
        configureFlags = configureFlags ++ maybe host.isStatic [ "--static" ];
        cmakeFlags = cmakeFlags ++ maybe host.isDarwin [ "-DCMAKE_SYSTEM_NAME=Darwin" ];
        outputs = outputs ++ maybe separateDebugInfo [ "debug" ];
      }
      // onlyIf (hardeningDisable != [ ]) { HARDENING = builtins.filter (one: !builtins.elem one hardeningDisable) hardening; }
      // onlyIf enableParallelBuilding { inherit enableParallelBuilding; enableParallelChecking = attrs.enableParallelChecking or true; };

  # Every output is the whole package, with that output chosen.
  finished = fine: extra: drv:
    let
      common = drv // builtins.listToAttrs each // { all = map (one: one.value) each; } // extra;
      each = map (name: {
        inherit name;
        value = common // {
          inherit (drv.${name}) type outputName;
          chosen = true;
          drvPath = assert fine; drv.${name}.drvPath;
          outPath = assert fine; drv.${name}.outPath;
        };
      }) (drv.outputs or [ "out" ]);
    in
    common // {
      drvPath = assert fine; drv.drvPath;
      outPath = assert fine; drv.outPath;
    };

  package = overrideAttrs: { meta ? { }, passthru ? { }, ... }@attrs:
    let
      arguments = argumentsFor attrs;
      named = attrs // { inherit (arguments) name; };
      problem = lib.checks.problem { inherit config system; attrs = named; };
      place = builtins.unsafeGetAttrPos (if attrs ? description then "description" else "pname") (meta // attrs);
    in
    finished (problem == null || throw "${named.name} ${problem}") ({
      inherit overrideAttrs passthru;
      meta = lib.checks.said { attrs = named; inherit problem place; };
      inputs = derivation (arguments // { name = "inputs-${arguments.name}"; outputs = [ "out" ]; args = [ "-c" "export > $out" ]; });
    } // passthru) (derivation arguments);

  # `change` is a set, a function of the attributes before, or of the package in the end and of those.
  applied = change: final: before:
    if builtins.isFunction change then
      let one = change before; in if builtins.isFunction one then change final before else one
    else
      change;
  fromFunction = f:
    let
      attrs = f (attrs // { finalPackage = made; });
      made = package (change: fromFunction (final: let before = f final; in before // applied change final before)) attrs;
    in
    made;
  fromSet = attrs: package (change: fromFunction (final: attrs // applied change final attrs)) attrs;

  setup = derivation {
    name = "stdenv";
    inherit system;
    builder = "/bin/sh";
    setup = written ./setup.sh;
    args = [ "-e" builder ];
  };
in
setup // {
  inherit config system;
  shell = "/bin/sh";
  hostPlatform = host;
  buildPlatform = host;
  mkDerivation = given: if builtins.isFunction given then fromFunction given else fromSet given;
}
