/**
 * A poster that is loaded with the first post: undici is a tenth of a start's work, and most servers start with nothing to
 * post.
 * Owns: the poster behind it, once there is one.
 */
import type { PostResult } from './delivery-rules.js';
import type { FindAddresses } from './host-addresses.js';
import type { Poster, PosterSettings } from './https-poster.js';
import type { SignedMessage } from './signed-message.js';

export class LazyPoster implements Poster {
  private loading: Promise<Poster> | null = null;

  constructor(
    private readonly settings: PosterSettings,
    private readonly findAddresses: FindAddresses,
  ) {}

  async post(url: string, message: SignedMessage): Promise<PostResult> {
    this.loading ??= this.load();
    return (await this.loading).post(url, message);
  }

  async close(): Promise<void> {
    await (await this.loading)?.close();
  }

  private async load(): Promise<Poster> {
    const { HttpsPoster } = await import('./https-poster.js');
    return new HttpsPoster(this.settings, this.findAddresses);
  }
}
