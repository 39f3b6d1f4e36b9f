#!/usr/bin/env node
console.log(require("ms")("2 days"))
