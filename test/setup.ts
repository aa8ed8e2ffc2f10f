import fc from 'fast-check';

// Property tests draw the same examples in every run, so that a failure belongs to the change that shows it.
// UFB_PROPERTY_SEED draws others: run it with several before a release.
fc.configureGlobal({ seed: Number(process.env.UFB_PROPERTY_SEED ?? 1) });
