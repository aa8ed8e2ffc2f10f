import { LanguageModelHead } from '../nn/language_model_head.ts';
import type { Parameter } from '../nn/parameter.ts';
import type { ModelConfig } from './config.ts';
import { Encoder } from './encoder.ts';
import { modelNames, transformActivation } from './families/families.ts';
import type { ModelNames } from './families/family.ts';
import { LanguageModel } from './language_model.ts';
import type { ParameterFactory } from './parameter_factory.ts';

/** An encoder and a head that predicts masked tokens. */
export class MaskedLanguageModel extends LanguageModel {
  readonly task = 'masked-lm';
  readonly encoder: Encoder;
  readonly parameters: readonly Parameter[];
  protected readonly transformer: Encoder;
  protected readonly head: LanguageModelHead;

  constructor(config: ModelConfig, factory: ParameterFactory, names: ModelNames = modelNames(config)) {
    super(config);
    this.encoder = this.transformer = new Encoder(config, factory, names);
    const [word] = this.encoder.parameters;
    const { transform, decoderBias } = names;
    if (!transform || decoderBias === undefined) this.head = new LanguageModelHead(word, { tied: true });
    else {
      const { hiddenSize, embeddingSize: width = hiddenSize, initializerRange: deviation, layerNormEps: normEpsilon } = config;
      const dense = factory.linear(transform.dense, width, hiddenSize, { deviation, bias: true, activation: transformActivation(config) });
      const norm = factory.norm(transform.norm, width, normEpsilon);
      const bias = factory.plain(decoderBias, [config.vocabSize], { constant: 0 });
      const decoder = config.untiedDecoder
        ? factory.plain(`${names.decoder}.weight`, [config.vocabSize, width], { normal: deviation })
        : word;
      this.head = new LanguageModelHead(decoder, { tied: decoder === word, transform: { dense, norm }, bias });
    }
    this.parameters = [...factory.parameters];
  }
}
