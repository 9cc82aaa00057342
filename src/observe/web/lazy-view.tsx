/** Views with heavy libraries are fetched when first opened; what others need stays small. */
import type { ComponentType, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Loading, Trouble } from './parts.js';

export function lazyView(load: () => Promise<ComponentType>): ComponentType {
  let loaded: ComponentType | null = null;
  return function LazyView(): JSX.Element {
    const [view, setView] = useState<{ component: ComponentType | null; failed: boolean }>({
      component: loaded,
      failed: false,
    });
    useEffect(() => {
      if (loaded !== null) return;
      let wanted = true;
      load().then(
        (component) => {
          loaded = component;
          if (wanted) setView({ component, failed: false });
        },
        () => wanted && setView({ component: null, failed: true }),
      );
      return () => {
        wanted = false;
      };
    }, []);
    const { component: View, failed } = view;
    if (failed) {
      return (
        <Trouble
          text="This view could not be fetched. The server may have been renewed."
          onRetry={() => location.reload()}
        />
      );
    }
    return View === null ? <Loading what="the view" /> : <View />;
  };
}
