[
  (final: prev: { video-3 = prev.video-3.overrideAttrs (before: { doCheck = true; }); })
  (final: prev: { object-2 = prev.object-2.override { enableParallel = true; }; })
]
